"""Validate an unpacked RO-Crate with the validator of the RO-Crate community, without a network.

The one thing the validator would ask for is the context of RO-Crate's names; the `rocrate` package carries it.
Usage: python validate_crate.py FOLDER. Prints one line for each failed check, required or recommended; status 1 if any.
"""

import io
import json
import sys
from importlib.resources import files
from types import SimpleNamespace
from urllib.response import addinfourl

import rdflib.parser
from rocrate_validator import models, services
from rocrate_validator.utils.http import HttpRequester

CONTEXT = files("rocrate").joinpath("data/ro-crate.jsonld").read_bytes()
HEADERS = {"Content-Type": "application/ld+json"}


def answer(url, *_, **__):
    """Answer a request for the context; there is no other."""
    assert str(url).startswith("https://w3id.org/ro/crate/"), url
    return SimpleNamespace(status_code=200, headers=HEADERS, json=lambda: json.loads(CONTEXT), content=CONTEXT)


def opened(request):
    """Answer the same request as urllib would."""
    answer(request.full_url)
    return addinfourl(io.BytesIO(CONTEXT), HEADERS, request.full_url, 200)


rdflib.parser._urlopen = opened
HttpRequester.get = lambda self, url, *a, **k: answer(url)
result = services.validate(
    services.ValidationSettings(
        rocrate_uri=sys.argv[1], profile_identifier="ro-crate-1.1", requirement_severity=models.Severity.RECOMMENDED
    )
)
for issue in result.get_issues(models.Severity.OPTIONAL):
    print(issue.severity.name, issue.check.identifier, issue.message)
sys.exit(not result.passed(models.Severity.RECOMMENDED))
