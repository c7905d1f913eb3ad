"""All layouts, in the order in which a folder is compared with them.

A new one is a file beside this one, and a line here.
"""

from efmodel.speech.layouts import (
    any_table,
    common_voice,
    fleurs,
    kaldi,
    lhotse,
    librispeech,
    ljspeech,
    metadata,
    mls,
    nemo,
    pairs,
    stm,
    voxforge,
)

LAYOUTS = (
    ljspeech.LAYOUT,  # its metadata.csv is none of ours
    metadata.LAYOUT,
    common_voice.LAYOUT,
    fleurs.LAYOUT,
    mls.LAYOUT,
    kaldi.LAYOUT,
    lhotse.LAYOUT,
    nemo.LAYOUT,
    stm.LAYOUT,
    librispeech.LAYOUT,
    voxforge.LAYOUT,
)
# These two are recognised by contents, not by names: whatever has names of its own comes first.
ANY_NAMES = (pairs.LAYOUT, any_table.LAYOUT)
