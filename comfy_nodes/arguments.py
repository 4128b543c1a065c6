"""Which options of ComfyUI's command line are part of a key. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum
from typing import Any

NO_NUMBERS = frozenset(
    {
        "listen", "port", "tls_keyfile", "tls_certfile", "enable_cors_header", "max_upload_size",
        "base_directory", "extra_model_paths_config", "output_directory", "temp_directory",
        "input_directory", "user_directory", "auto_launch", "disable_auto_launch", "preview_method",
        "preview_size", "cache_classic", "cache_lru", "cache_none", "cache_ram", "dont_print_server",
        "quick_test_for_ci", "windows_standalone_build", "disable_metadata", "disable_all_custom_nodes",
        "whitelist_custom_nodes", "disable_api_nodes", "multi_user", "verbose", "log_stdout",
        "front_end_version", "front_end_root", "enable_compress_response_body", "comfy_api_base",
        "database_url", "enable_assets", "enable_manager", "disable_manager_ui",
        "enable_manager_legacy_ui",
    }
)  # fmt: skip
"""Command line options that change no picture. One that is not here counts: new ones do."""


def arguments_that_count(arguments: Mapping[str, Any]) -> dict[str, Any]:
    """Return the options that may change a picture, as plain values."""
    return {name: _plain(value) for name, value in sorted(arguments.items()) if name not in NO_NUMBERS}


def _plain(value: Any) -> Any:
    if isinstance(value, Enum):
        return value.name
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    if isinstance(value, (list, tuple, set, frozenset)):
        return sorted(str(_plain(each)) for each in value)
    return str(value)
