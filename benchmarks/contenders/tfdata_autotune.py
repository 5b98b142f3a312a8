"""GZIP TFRecord at tf.data's best, by https://www.tensorflow.org/guide/data_performance.

Files interleaved in parallel, messages parsed by whole batches (vectorised), everything tuned by
AUTOTUNE, prefetched, order not kept (`deterministic=False`); as the talk's V100 node had it.
"""

from __future__ import annotations

from collections.abc import Iterator

import tensorflow as tf

from contenders._tfrecord import N_FILES, TfContender
from harness.contender import Batch, Contender, Inputs, Setting

__all__ = ["create"]


class AutotuneContender(TfContender):
    """Reads, maps and prefetch are tuned while running, within the threads that all have."""

    n_ahead = 4

    def settings(self, inputs: Inputs) -> list[Setting]:
        shuffled = min(1024, inputs.n_samples)
        return [{"threads": inputs.threads, "shuffle_buffer": shuffled, "reads": "AUTOTUNE"}]

    def open(self, inputs: Inputs, setting: Setting) -> Iterator[Batch]:
        tune = tf.data.AUTOTUNE
        options = tf.data.Options()
        options.threading.private_threadpool_size = int(setting["threads"])
        options.deterministic = False
        files = tf.data.Dataset.from_tensor_slices(self.files(inputs)).shuffle(N_FILES)
        messages = files.interleave(
            lambda path: tf.data.TFRecordDataset(path, "GZIP"), N_FILES, num_parallel_calls=tune
        )
        # Messages, not images, are shuffled and repeated, before they are parsed.
        messages = messages.shuffle(int(setting["shuffle_buffer"])).repeat()
        batches = messages.batch(inputs.batch_size).map(self.parse(inputs), tune).prefetch(tune)
        return self.deliver(batches.with_options(options))


def create() -> Contender:
    return AutotuneContender()
