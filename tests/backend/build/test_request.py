from __future__ import annotations

import pytest

from tpopt.backend.build.request import BuildRequest
from tpopt.errors import UsageError


@pytest.mark.parametrize("entry", ["json", "json:", ":dumps", "json:dumps()", "../json:dumps", "json:a.b"])
def test_an_entry_of_another_form_is_refused(entry: str):
    with pytest.raises(UsageError, match=r"entry '.*': expected module:function"):
        BuildRequest(entry, b"", "key")


@pytest.mark.parametrize("key", ["", "../key", "a/b", "-k", "k.so", "k" * 200])
def test_a_key_that_is_no_file_name_is_refused(key: str):
    with pytest.raises(UsageError, match=r"key '.*': expected letters"):
        BuildRequest("json:dumps", b"", key)


def test_a_request_keeps_what_it_was_given():
    request = BuildRequest("a.b_c:build", b"x", "0aF_-")
    assert (request.entry, request.payload, request.key) == ("a.b_c:build", b"x", "0aF_-")
