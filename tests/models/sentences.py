"""A few sentences in English and French, and the sizes of tokenizers that are trained on them."""

from __future__ import annotations

ENGLISH = [
    "The kettle arrived broken, and I'd like my money back.",
    "The candle arrived late; the kettle is lovely!",
    "It's 1984 again: we'll pay 35 or 350 for the parcel.",
]
FRENCH = [
    "L’œuvre « déjà vue » coûte 12\u202f000\u00a0€, n’est-ce pas\u202f?",
    "Le cœur de l’élève naïf a été brisé où il était, à Noël.",
    "La bouilloire est arrivée cassée\u202f; «\u202fça va\u202f» dit-il.",
]
TEXTS = [*ENGLISH, *FRENCH, *ENGLISH]
SIZES = {"bpe": 330, "unigram": 400, "wordpiece": 180}
