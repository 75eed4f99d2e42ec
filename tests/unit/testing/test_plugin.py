"""Errors of the pytest plugin's fixtures."""

import pytest

from chowder_local.testing import plugin


def test_a_recording_without_its_marker_says_how_to_name_the_folder(
    request: pytest.FixtureRequest,
) -> None:
    with pytest.raises(pytest.fail.Exception, match=r'chowder_recording\("folder"\)'):
        plugin._recording_folder(request.node)
