"""The talk's first pipeline: GZIP TFRecord, read and mapped one after the other, two batches shuffled."""

from __future__ import annotations

from collections.abc import Iterator

import tensorflow as tf

from contenders._tfrecord import TfContender
from harness.contender import Batch, Contender, Inputs, Setting

__all__ = ["create"]


class SerialContender(TfContender):
    """No parallel reads, a serial map per example, a prefetched batch, as on the P100 node."""

    def settings(self, inputs: Inputs) -> list[Setting]:
        return [{"threads": 1, "shuffle_buffer": 2 * inputs.batch_size, "prefetch": 1}]

    def open(self, inputs: Inputs, setting: Setting) -> Iterator[Batch]:
        parse = self.parse(inputs)

        def parse_one(message: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
            images, labels = parse(message[tf.newaxis])
            return images[0], labels[0]

        dataset = tf.data.TFRecordDataset(self.files(inputs), "GZIP").map(parse_one)
        dataset = dataset.shuffle(int(setting["shuffle_buffer"])).repeat()
        return self.deliver(dataset.batch(inputs.batch_size).prefetch(1))


def create() -> Contender:
    return SerialContender()
