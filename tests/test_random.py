"""Random words: known answers of the generator's authors; and what a seed covers."""

import threading

import numpy as np

import plait
from plait import nn
from plait.reference import philox, random_words


def test_known_answers():
    """kat_vectors of Random123: philox4x32 10 rounds (counter words, key words -> words)."""
    full = 2**64 - 1
    assert philox(0, 0, 0).tolist() == [0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8]
    assert philox(full, full, full).tolist() == [0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD]
    words = philox(0x299F31D0A4093822, 0x0370734413198A2E, 0x85A308D3243F6A88)
    assert words.tolist() == [0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1]


def test_words_are_blocks_in_order():
    words = random_words(3, 4, 10)
    assert words.shape == (10,) and words.dtype == np.uint32
    assert words[:8].tolist() == philox(3, 4, [0, 1]).reshape(-1).tolist()
    assert random_words(3, 4, 0).shape == (0,)


def test_a_seed_covers_initial_values():
    """Of all threads, which share the numbers."""
    made = []
    for _ in range(2):
        plait.seed(7)
        layers = [nn.Linear(4, 3)]
        thread = threading.Thread(target=lambda layers=layers: layers.append(nn.Linear(4, 3)))
        thread.start()
        thread.join()
        made.append([layer.weight.data for layer in layers])
    np.testing.assert_array_equal(*made)
    assert not np.array_equal(*made[0])
    plait.seed(8)
    assert not np.array_equal(nn.Linear(4, 3).weight.data, made[0][0])
