"""Scores of predictions: pure functions of arrays that give numbers and the tables behind them. No torch."""
