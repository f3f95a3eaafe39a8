"""From files to token ids: read rows, audit and split them, encode their texts."""
