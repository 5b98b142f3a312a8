"""The talk's files, GZIP TFRecord, and the parts that its two pipelines share."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from contenders._stream import Stream
from harness.contender import Batch, Inputs

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import tensorflow as tf

__all__ = ["N_FILES", "TfContender"]

N_FILES = 8  # several, so that they can be read in parallel


class TfContender(Stream):
    """Delivers what tf.data does; subclasses say how."""

    def write(self, inputs: Inputs, folder: Path) -> None:
        """Images as the talk's have them, (H, W, C) flattened."""
        images = np.load(inputs.files["npy"], mmap_mode="r")
        labels = np.load(inputs.files["y"])
        for part in range(N_FILES):
            ids = range(part, len(images), N_FILES)
            with tf.io.TFRecordWriter(str(folder / f"jets-{part}.tfrecord.gz"), "GZIP") as file:
                for k in ids:
                    flat = images[k].transpose(1, 2, 0).reshape(-1)
                    feature = {"X_jets": _floats(flat), "y": _floats(labels[k : k + 1])}
                    message = tf.train.Example(features=tf.train.Features(feature=feature))
                    file.write(message.SerializeToString())

    def parse(self, inputs: Inputs) -> Any:
        """Return a function of serialised messages [b]: (images [b, C, H, W], labels [b])."""
        channels, height, width = inputs.shape
        features = {
            "X_jets": tf.io.FixedLenFeature((height, width, channels), tf.float32),
            "y": tf.io.FixedLenFeature((), tf.float32),
        }

        def parse(messages: Any) -> tuple[Any, Any]:
            found = tf.io.parse_example(messages, features)
            return tf.transpose(found["X_jets"], (0, 3, 1, 2)), found["y"]

        return parse

    def files(self, inputs: Inputs) -> list[str]:
        return sorted(str(path) for path in Path(inputs.folder).iterdir())

    def deliver(self, dataset: Any) -> Iterator[Batch]:
        return iter(dataset.as_numpy_iterator())


def _floats(values: Any) -> Any:
    return tf.train.Feature(float_list=tf.train.FloatList(value=values))
