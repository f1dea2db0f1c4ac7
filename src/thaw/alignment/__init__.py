"""A tied state for every frame: lexicon, features, GMM-HMM, tree, alignments, decoding graph.

Kaldi's own classes do the work, from wheels (`thaw.alignment.kaldi` loads them, and only when they are used). Whoever
trains on alignments needs `frames` (where a frame lies) and `states` (the file) alone, which need no Kaldi.
"""
