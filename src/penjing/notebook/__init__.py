"""What notebooks show of a value: headline, tables and notes, without any script.

All tables are written in one place, which escapes every text: reports may be anybody's.
Values that go to JSON show their fields; reports of runs show more (`report/`).
"""
