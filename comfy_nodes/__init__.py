"""ComfyUI nodes around the engine."""


def entrypoint():
    """Return the extension; ComfyUI is imported here and not before."""
    from .nodes import Extension

    return Extension()
