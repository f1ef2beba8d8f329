"""Quantities: the bounds that a number or a word has on the wire and in a settings file, said once."""

from typing import Annotated

from pydantic import Field

Count = Annotated[int, Field(strict=True, ge=0, lt=2**63)]
Positive = Annotated[int, Field(strict=True, ge=1, lt=2**63)]
Held = Annotated[int, Field(strict=True, ge=-1, lt=2**63)]  # a version, or -1 for none
Identifier = Annotated[int, Field(strict=True, ge=0, lt=2**64)]
Label = Annotated[float, Field(strict=True)]  # for people to read; nothing is computed from it, so it may be NaN
Amount = Annotated[float, Field(strict=True, ge=0, allow_inf_nan=False)]
Size = Annotated[float, Field(strict=True, gt=0, allow_inf_nan=False)]
Share = Annotated[float, Field(strict=True, ge=0, le=1)]
Word = Annotated[str, Field(strict=True, max_length=200)]
Sentence = Annotated[str, Field(strict=True, max_length=2000)]
