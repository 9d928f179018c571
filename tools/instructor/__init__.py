"""For who teaches it: run it again, render it, hand it out, grade what comes back."""
