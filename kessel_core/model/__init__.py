"""The nouns of kessel and their rules: values only, without clock or queue; imports almost nothing."""
