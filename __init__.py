"""ComfyUI starts here. Nothing is imported until ComfyUI asks."""


def comfy_entrypoint():
    """Return the extension with our nodes."""
    import sys
    from pathlib import Path

    # ComfyUI loads this folder as a package of its own, under its path as name, and does not put it on
    # the search path. Importing absolutely from there gives one copy of everything, and so one engine.
    home = str(Path(__file__).resolve().parent)
    if home not in sys.path:
        sys.path.append(home)
    from comfy_nodes import entrypoint

    return entrypoint()
