from dataclasses import replace

import pytest
from zit_tenant import for_user

from zit_ext import Outcome
from zit_ext.testing import assert_field_changes_key, assert_same_key, make_request


def test_two_users_never_share_an_entry(zit_engine):
    request = make_request()
    outcomes = [
        zit_engine.generate(for_user(request, user)).status.outcome for user in ("ann", "bob", "ann", "bob")
    ]
    assert outcomes == [Outcome.MISS, Outcome.MISS, Outcome.HIT, Outcome.HIT]
    assert len({entry.namespace for entry in zit_engine.stored()}) == 2


def test_the_user_is_in_the_key_and_the_same_user_has_the_same_key(zit_engine):
    ann, bob = (zit_engine.fingerprint(for_user(make_request(), user)) for user in ("ann", "bob"))
    assert_field_changes_key(ann, bob, "tenant.user")
    assert_same_key(ann, zit_engine.fingerprint(for_user(make_request(), "ann")))


def test_nobodys_request_and_a_forged_namespace_stay_away_from_the_cache(zit_engine):
    anns = for_user(make_request(), "ann")
    forged = replace(for_user(make_request(), "bob"), namespace=anns.namespace)
    assert zit_engine.bypass_reason(make_request()) == "the request names no user"
    assert zit_engine.bypass_reason(forged) == "the namespace is not the user's"
    assert zit_engine.bypass_reason(anns) is None


def test_a_user_has_a_name():
    with pytest.raises(ValueError, match="name the user"):
        for_user(make_request(), "")
