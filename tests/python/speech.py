"""Real speech to judge by: eSpeak NG says a sentence. Its library is fetched and called by ctypes.

A process gets the same samples each time for the first sentence; later ones depend on those before.
"""

import ctypes

import numpy as np

from verdicts import expect
from wheels import fetch

PACKAGE = "espeakng-loader==0.2.4"
DATA = ["phontab", "phonindex", "phondata", "intonations", "en_dict", "en-US"]
SYNCHRONOUS, DONT_EXIT, UTF8, BY_CHARACTER = 2, 0x8000, 1, 1  # of speak_lib.h
CALLBACK = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.POINTER(ctypes.c_short), ctypes.c_int, ctypes.c_void_p)


def say(sentence, cache):
    """Samples in -1..1 and their rate."""
    path, *_ = fetch(PACKAGE, ["*espeak-ng.*", *DATA], cache)
    library = ctypes.CDLL(str(path))
    library.espeak_Synth.argtypes = [ctypes.c_char_p, ctypes.c_size_t, ctypes.c_uint, ctypes.c_int, ctypes.c_uint,
                                     ctypes.c_uint, ctypes.c_void_p, ctypes.c_void_p]
    parts = []

    def keep(samples, count, _events):
        if samples and count > 0:
            parts.append(np.ctypeslib.as_array(samples, (count,)).copy())
        return 0

    callback = CALLBACK(keep)  # a name, so that it lives as long as the library may call it
    rate = library.espeak_Initialize(SYNCHRONOUS, 0, str(path.parent).encode(), DONT_EXIT)
    expect(rate > 0, f"eSpeak NG does not start: {rate}")
    library.espeak_SetSynthCallback(callback)
    text = sentence.encode()
    status = library.espeak_SetVoiceByName(b"en-us")
    status = status or library.espeak_Synth(text, len(text) + 1, 0, BY_CHARACTER, 0, UTF8, None, None)
    library.espeak_Terminate()
    expect(status == 0 and parts, f"eSpeak NG says nothing: status {status}")
    return np.concatenate(parts).astype(np.float32) / 32768, rate


def resample(samples, rate, wanted):
    """To another rate: the spectrum is cut where the new rate cannot hold it."""
    count = len(samples) * wanted // rate
    spectrum = np.fft.rfft(samples)[:count // 2 + 1]
    return (np.fft.irfft(spectrum, count) * (count / len(samples))).astype(np.float32)
