"""Hard negatives: summaries made wrong in one fact, verified against their note, chosen so that only the note tells.

`registry` lists the editors, each of which proposes how to make one kind of fact wrong; `verification` keeps what is
wrong in exactly one fact; `supply` is what one summary offers; `selection` chooses among the offers.
"""
