"""TFRecord files without TensorFlow: records with their checksums, and the Example message in them."""

from __future__ import annotations

from e2eio.tfrecord.example import Feature, MessageError, read_example, write_example
from e2eio.tfrecord.framing import (
    HEADER_BYTES,
    MAX_RECORD_BYTES,
    ByteStream,
    RecordError,
    RecordReader,
    RecordWriter,
    begins_like_a_record,
    masked_crc32c,
)

__all__ = [
    "HEADER_BYTES",
    "MAX_RECORD_BYTES",
    "ByteStream",
    "Feature",
    "MessageError",
    "RecordError",
    "RecordReader",
    "RecordWriter",
    "begins_like_a_record",
    "masked_crc32c",
    "read_example",
    "write_example",
]
