"""Recipes and tokenizers to begin with, and what recipes can name."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from burnish.cli.app import app, tokenizers
from burnish.core.errors import BurnishError, disk_errors


@app.command()
def init(
    data: Annotated[str, typer.Argument(metavar="DATA", help="A data file, or bundled:NAME.")],
    task: Annotated[str, typer.Option(help="What to learn; `burnish list` names the tasks.")] = "classify",
    model: Annotated[
        str | None, typer.Option(help="A hub id, a local folder, or starter:minilm; by default a small one for the task.")
    ] = None,
    output: Annotated[Path | None, typer.Option("--output", "-o", help="Where to write; by default NAME.yaml here.")] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace an existing recipe.")] = False,
) -> None:
    """Write a commented recipe for a data file; its columns are guessed from its rows."""
    from burnish.scaffold import recipe_for

    text, name = recipe_for(data, task, model)
    path = output or Path(f"{name}.yaml")
    if path.exists() and not overwrite:
        raise BurnishError(f"{path} exists: name another with --output, or say --overwrite.")
    with disk_errors(f"Writing {path}"):
        path.write_text(text, encoding="utf-8")
    print(f"{path} is written: look at it, then: burnish train {path}")


@tokenizers.command(name="train")
def train_tokenizer(
    data: Annotated[list[str], typer.Argument(metavar="DATA...", help="Data files, or bundled:NAME, whose texts it learns from.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="The folder to write, for model.tokenizer.")],
    column: Annotated[list[str] | None, typer.Option(help="A column of texts; again for more. By default every column of texts.")] = None,
    kind: Annotated[str, typer.Option(help="bpe (of bytes), unigram or wordpiece.")] = "bpe",
    size: Annotated[int, typer.Option(min=1, help="Tokens at most.")] = 8000,
    lowercase: Annotated[bool, typer.Option("--lowercase", help="Read capitals as small letters (wordpiece).")] = False,
    max_length: Annotated[int | None, typer.Option(help="Tokens at which it cuts; by default what a model can read.")] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace an existing tokenizer.")] = False,
) -> None:
    """Train a tokenizer on the texts of data files, for models that start from scratch."""
    from burnish.data.texts import texts_of
    from burnish.models import vocabulary

    if (output / "tokenizer.json").exists() and not overwrite:
        raise BurnishError(f"{output} holds a tokenizer: name another folder with --output, or say --overwrite.")
    texts = texts_of(data, column)
    tokenizer = vocabulary.train(texts, kind, size, lowercase, max_length)  # type: ignore[arg-type]
    with disk_errors(f"Writing {output}"):
        output.mkdir(parents=True, exist_ok=True)
        tokenizer.save_pretrained(output)
    facts = vocabulary.summary(tokenizer, texts)
    print(
        f"{facts['vocabulary']:,} tokens learned from {len(texts):,} texts: {facts['bytes_per_token']:.2f} bytes a token, {facts['unknown']:.2%} unknown"
    )
    print(f"{output} is written: name it in a recipe, model: {{name: new:llama, tokenizer: {output}}}")


@app.command()
def schema() -> None:
    """Print the JSON Schema of recipes, for editors."""
    from burnish.recipe.schema import schema as of_recipes

    print(json.dumps(of_recipes(), indent=2))


@app.command(name="list")
def list_() -> None:
    """List tasks, methods, optimizers, schedules, starters and bundled data."""
    from burnish.scaffold import catalogue

    for title, rows in catalogue().items():
        print(f"\n{title}")
        for name, about in rows:
            print(f"  {name:<22} {about}")
