"""What an author and an instructor run: build, run, verify. `make help` lists the commands."""

import sys

# nbformat's validator would spend two seconds of each start on a grammar of web addresses, which no notebook needs.
sys.modules.setdefault("rfc3987_syntax", None)
