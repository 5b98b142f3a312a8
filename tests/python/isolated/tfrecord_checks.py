"""Reads TFRecord files by TensorFlow, and writes some: ``tfrecord_checks.py DIRECTORY``.

The directory holds ours-NONE, ours-GZIP and ours-ZLIB, and truth.npz with X [n, C, H, W], m0 and y.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"

import numpy as np
import tensorflow as tf

COMPRESSIONS = ("", "GZIP", "ZLIB")


def check_ours(directory: Path, images: np.ndarray, m0: np.ndarray, y: np.ndarray) -> None:
    n_pixels = images[0].size
    spec = {
        "X_jets": tf.io.FixedLenFeature([n_pixels], tf.float32),
        "m0": tf.io.FixedLenFeature([], tf.float32),
        "y": tf.io.FixedLenFeature([], tf.int64),
        "name": tf.io.FixedLenFeature([], tf.string),
    }
    for compression in COMPRESSIONS:
        path = str(directory / f"ours-{compression or 'NONE'}")
        records = tf.data.TFRecordDataset(path, compression_type=compression)
        n_found = 0
        for i, record in enumerate(records):
            found = {k: v.numpy() for k, v in tf.io.parse_single_example(record, spec).items()}
            flat = np.ascontiguousarray(images[i].transpose(1, 2, 0)).ravel()
            assert np.array_equal(found["X_jets"].view("u4"), flat.view("u4"))
            assert (found["m0"], found["y"], found["name"]) == (m0[i], y[i], b"jet %d" % i)
            n_found += 1
        assert n_found == len(images), (path, n_found)


def write_theirs(directory: Path, images: np.ndarray, m0: np.ndarray, y: np.ndarray) -> None:
    def floats(values: Any) -> Any:
        return tf.train.Feature(float_list=tf.train.FloatList(value=values))

    for compression in COMPRESSIONS:
        path = str(directory / f"theirs-{compression or 'NONE'}")
        with tf.io.TFRecordWriter(path, compression) as writer:
            for image, mass, label in zip(images, m0, y, strict=True):
                features = {
                    "X_jets": floats(image.transpose(1, 2, 0).ravel()),
                    "m0": floats([mass]),
                    "y": tf.train.Feature(int64_list=tf.train.Int64List(value=[label])),
                    "name": tf.train.Feature(bytes_list=tf.train.BytesList(value=[b"jet"])),
                }
                example = tf.train.Example(features=tf.train.Features(feature=features))
                writer.write(example.SerializeToString())


def main() -> None:
    directory = Path(sys.argv[1])
    with np.load(directory / "truth.npz") as truth:
        arrays = (truth["X"], truth["m0"], truth["y"])
    check_ours(directory, *arrays)
    write_theirs(directory, *arrays)
    print("tfrecord checks done")


if __name__ == "__main__":
    main()
