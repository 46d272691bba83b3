"""Results on disk: written, compared, verified, attested, cited, exported and fetched."""
