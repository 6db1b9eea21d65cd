"""The nouns of kessel and the rules that they keep: values only, no clock, no queue; a leaf."""
