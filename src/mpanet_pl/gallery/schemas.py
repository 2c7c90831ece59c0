"""What the service takes and answers, as its OpenAPI says it."""

from pydantic import Base64Bytes, BaseModel, Field

from mpanet_pl.gallery.bounded_images import LONGEST

MOST_ANSWERS = 100
MOST_QUERIES = 32


class Refusal(BaseModel):
    detail: str = Field(description="what was wrong, in a sentence")


class Row(BaseModel):
    path: str = Field(description="the row's name, which `id` takes")
    camera: str | None
    time: float | None = Field(description="seconds, since 1970 where they are dates")
    identity: str | None
    modality: str | None = Field(description="visible or infrared")
    track: str | None
    frames: int | None = Field(description="of the tracklet")
    thumbnail: str | None = Field(None, description="a JPEG as a data: URL, of a file below the gallery's root")


class Answer(Row):
    place: int = Field(description="from 1")
    score: float = Field(description="cosine similarity")
    known: bool | None = Field(description="whether the score reaches the threshold, where there is one")


class Generation(BaseModel):
    generation: str = Field(description="which rows were asked; another after embed or forget")
    rows: int
    unfinished: str = Field(description="what is not in the answers, in a sentence; mostly empty")


class Found(Generation):
    answers: list[Answer]


class Result(BaseModel):
    answers: list[Answer] = []
    error: str | None = None


class Results(Generation):
    results: list[Result] = Field(description="one a query, in their order")


class Browsed(Generation):
    matching: int = Field(description="how many rows the filters let through")
    answers: list[Row]


class Ask(BaseModel):
    """A query: a row's name, or an image."""

    id: str | None = Field(None, max_length=LONGEST)
    image: Base64Bytes | None = Field(None, description="the file's bytes, in base64")
    infrared: bool | None = Field(None, description="of an image, where `about` asks for it")


class Asks(BaseModel):
    queries: list[Ask] = Field(min_length=1, max_length=MOST_QUERIES)


class Health(BaseModel):
    status: str
    rows: int
    generation: str


class Promise(BaseModel):
    generation: str
    threshold: float
    known: str = Field(description="from when on an answer is known, and how often that is wrong")


class About(Generation):
    cameras: list[str]
    modalities: list[str]
    first: float | None = Field(description="the earliest time, in seconds")
    last: float | None
    dimension: int
    trained_on: str
    known: str = Field(description="from when on an answer is known, in a sentence; empty without a threshold")
    threshold: float | None
    asks: list[str] = Field(description="what has to be said of an upload: infrared, or nothing")
