"""The course as a site: what `make site` needs."""
