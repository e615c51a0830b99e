"""Hard negatives: factual summaries in which exactly one fact is made wrong.

`registry` lists the editors; each proposes changes to one kind of fact. `verification` keeps the changes that make
exactly one fact wrong according to the note. `supply` collects the negatives of one summary. `selection` chooses among
them, so that rejected texts cannot be recognised without the note.
"""
