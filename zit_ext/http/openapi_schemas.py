"""What the API's JSON looks like, as JSON Schema. `openapi` says where it is used."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..history.tally import COUNTS, SUMS

Schema = Mapping[str, Any]

TEXT: Schema = {"type": "string"}
MAYBE_TEXT: Schema = {"type": ["string", "null"]}
NUMBER: Schema = {"type": "number"}
MAYBE_NUMBER: Schema = {"type": ["number", "null"]}
WHOLE: Schema = {"type": "integer"}
FLAG: Schema = {"type": "boolean"}
ANY: Schema = {}
DIGEST: Schema = {"type": "string", "pattern": "^[0-9a-f]{64}$"}


def record(required: Mapping[str, Schema], optional: Mapping[str, Schema] | None = None) -> dict[str, Any]:
    """Return the schema of an object with these fields and no others."""
    return {
        "type": "object",
        "properties": {**required, **(optional or {})},
        "required": list(required),
        "additionalProperties": False,
    }


def list_of(schema: Schema) -> dict[str, Any]:
    return {"type": "array", "items": dict(schema)}


def ref(name: str) -> dict[str, Any]:
    return {"$ref": f"#/components/schemas/{name}"}


_FILE: Schema = {"anyOf": [TEXT, record({"source": TEXT})]}

REQUEST_FIELDS: Mapping[str, Schema] = {
    "prompt": TEXT,
    "seed": {
        "anyOf": [
            {"type": "integer", "minimum": -(2**63), "maximum": 2**64 - 1},
            {"type": "string", "pattern": "^[0-9]{1,19}$", "description": "for JavaScript: all digits"},
        ]
    },
    "model": {
        "anyOf": [
            TEXT,
            record(
                {},
                {
                    "source": TEXT,
                    "dtype": {"enum": ["auto", "bfloat16", "float16", "float32"]},
                    "text_encoder": {"anyOf": [_FILE, {"type": "null"}]},
                    "vae": {"anyOf": [_FILE, {"type": "null"}]},
                    "tokenizer": {"anyOf": [_FILE, {"type": "null"}]},
                    "attention": TEXT,
                    "vae_tiling": FLAG,
                    "offload": {"enum": ["none", "model", "group"]},
                },
            ),
        ]
    },
    "negative_prompt": TEXT,
    "width": {"type": "integer", "minimum": 16, "maximum": 8192, "multipleOf": 16},
    "height": {"type": "integer", "minimum": 16, "maximum": 8192, "multipleOf": 16},
    "steps": {"type": "integer", "minimum": 1, "maximum": 1000},
    "guidance": NUMBER,
    "cfg_normalization": NUMBER,
    "cfg_truncation": NUMBER,
    "sigmas": {"type": ["array", "null"], "items": {"type": "number", "minimum": 0, "maximum": 1}},
    "max_sequence_length": {"type": "integer", "minimum": 1, "maximum": 8192},
    "generator_device": {"enum": ["cpu", "cuda", "mps", "xpu"]},
    "scheduler": {"anyOf": [TEXT, record({}, {"name": TEXT, "config": {"type": "object"}})]},
    "loras": list_of({"anyOf": [TEXT, record({"source": TEXT}, {"strength": NUMBER})]}),
    "image": MAYBE_TEXT,
    "strength": {"type": "number", "exclusiveMinimum": 0, "maximum": 1},
    "media_type": TEXT,
    "namespace": TEXT,
    "extra": {"type": "object"},
    "cache": {"enum": ["use", "refresh", "bypass", "only"]},
    "debug": FLAG,
    "ttl_seconds": {"type": ["number", "null"], "minimum": 0},
    "keep_alive": {"type": ["number", "null"], "minimum": -1},
    "priority": {"type": "integer", "minimum": -1000, "maximum": 1000},
    "comment": TEXT,
}
"""The fields of a request, as `request_json` reads them."""

_IMAGE_FACTS: Mapping[str, Schema] = {
    "blob": DIGEST,
    "digest": DIGEST,
    "media_type": TEXT,
    "seed": WHOLE,
    "outcome": {"enum": ["hit", "miss", "bypass"]},
    "tier": {"enum": ["memory", "disk", "shared", "render"]},
    "key": {"anyOf": [DIGEST, {"type": "null"}]},
    "stored": FLAG,
    "collapsed": FLAG,
    "stale": FLAG,
    "ttl": MAYBE_NUMBER,
    "detail": MAYBE_TEXT,
    "seconds": NUMBER,
    "saved_seconds": NUMBER,
    "warnings": list_of(TEXT),
    "cache_status": TEXT,
}

_ENTRY: Mapping[str, Schema] = {
    "key": DIGEST,
    "digest": DIGEST,
    "blob": DIGEST,
    "url": TEXT,
    "media_type": TEXT,
    "size": WHOLE,
    "namespace": TEXT,
    "created_at": NUMBER,
    "used_at": NUMBER,
    "expires_at": MAYBE_NUMBER,
    "uses": WHOLE,
    "cost": NUMBER,
    "pinned": FLAG,
    "model": TEXT,
    "prompt": MAYBE_TEXT,
}
_COUNTS: Schema = {"type": "object", "additionalProperties": WHOLE}
_SUMS: Mapping[str, Schema] = {**dict.fromkeys(COUNTS, WHOLE), **dict.fromkeys(SUMS, NUMBER)}
_ANSWERED: Mapping[str, Schema] = {
    "at": NUMBER,
    "outcome": {"enum": ["hit", "miss", "bypass"]},
    "reason": MAYBE_TEXT,
    "detail": MAYBE_TEXT,
    "key": {"anyOf": [DIGEST, {"type": "null"}]},
    "tier": {"enum": ["memory", "disk", "shared", "render"]},
    "stored": FLAG,
    "collapsed": FLAG,
    "seconds": NUMBER,
    "saved_seconds": NUMBER,
    "render_seconds": NUMBER,
    "namespace": TEXT,
    "model": TEXT,
    "prompt": MAYBE_TEXT,
    "seed": WHOLE,
    "width": WHOLE,
    "height": WHOLE,
    "media_type": TEXT,
    "digest": {"anyOf": [DIGEST, {"type": "null"}]},
    "request_id": MAYBE_TEXT,
}
_BUCKET: Mapping[str, Schema] = {
    "at": WHOLE,
    **_SUMS,
    "reasons": _COUNTS,
    "latencies": record({"hit": list_of(WHOLE), "miss": list_of(WHOLE)}),
    "store_bytes": {"type": ["integer", "null"]},
    "entries": {"type": ["integer", "null"]},
    "models": {"type": "array", "items": TEXT},
}
_PAIRS: Schema = {
    "type": "object",
    "additionalProperties": {"type": "array", "minItems": 2, "maxItems": 2},
}
_MAYBE_ENTRY: Schema = {"anyOf": [ref("Entry"), {"type": "null"}]}

SCHEMAS: Mapping[str, Schema] = {
    "Error": record({"error": record({"code": TEXT, "message": TEXT, "field": MAYBE_TEXT})}),
    "OpenAIError": record(
        {"error": record({"message": TEXT, "type": TEXT, "param": MAYBE_TEXT, "code": TEXT})}
    ),
    "WebuiError": record({"error": TEXT, "detail": TEXT, "body": TEXT, "errors": TEXT}),
    "Request": record({"prompt": TEXT}, REQUEST_FIELDS),
    "Generate": record(
        {"prompt": TEXT},
        {
            **REQUEST_FIELDS,
            "n": {"type": "integer", "minimum": 1, "maximum": 64},
            "response_format": {"enum": ["url", "b64_json"]},
            "stream": FLAG,
            "previews": FLAG,
        },
    ),
    "Generated": record(
        {
            "output_paths": list_of(TEXT),
            "cached": FLAG,
            "seconds": NUMBER,
            "saved_seconds": NUMBER,
            "etag": DIGEST,
            "images": list_of(record(_IMAGE_FACTS, {"url": TEXT, "b64_json": TEXT})),
        }
    ),
    "Entry": record(_ENTRY),
    "EntryDetails": record({**_ENTRY, "fields": {"type": "object"}, "redacted": FLAG}),
    "Entries": record(
        {"entries": list_of(ref("Entry")), "offset": WHOLE, "limit": WHOLE, "more": FLAG}, {"total": WHOLE}
    ),
    "Nearest": record(
        {"key": DIGEST, "nearest": list_of(record({"entry": ref("Entry"), "differences": _PAIRS}))}
    ),
    "Differences": record({"keys": list_of(DIGEST), "differences": _PAIRS}),
    "Explanation": record(
        {
            "verdict": {"enum": ["hit", "miss", "bypass"]},
            "reason": TEXT,
            "key": MAYBE_TEXT,
            "entry": _MAYBE_ENTRY,
            "nearest": _MAYBE_ENTRY,
            "differences": _PAIRS,
        }
    ),
    "Answered": record(_ANSWERED),
    "Audit": record(
        {
            "auditable": FLAG,
            "identical": FLAG,
            "why": MAYBE_TEXT,
            "seconds": MAYBE_NUMBER,
            "differing_pixels": {"type": ["integer", "null"]},
            "largest_difference": {"type": ["integer", "null"]},
            "rendered": MAYBE_TEXT,
            "difference": MAYBE_TEXT,
        }
    ),
    "History": record(
        {
            "step": WHOLE,
            "buckets": list_of(record(_BUCKET)),
            "bins": record({"hit": list_of(NUMBER), "miss": list_of(NUMBER)}),
            "totals": record({**_SUMS, "since": MAYBE_NUMBER}),
        }
    ),
    "Keys": record({"keys": {**list_of(DIGEST), "minItems": 1, "maxItems": 1000}}),
    "Session": record(
        {
            "name": TEXT,
            "namespace": TEXT,
            "every_namespace": FLAG,
            "scopes": list_of(TEXT),
            "token_needed": FLAG,
        }
    ),
    "Stats": record(
        {"namespace": MAYBE_TEXT, "store": {"type": "object"}, "running": WHOLE},
        {"engine": {"type": "object"}, "namespaces": list_of({"type": "object"})},
    ),
    "Model": record({"id": TEXT, "object": {"const": "model"}, "created": WHOLE, "owned_by": TEXT}),
    "OpenAIGenerate": {
        "type": "object",
        "properties": {
            **REQUEST_FIELDS,
            "n": {"type": ["integer", "null"], "minimum": 1, "maximum": 64},
            "size": MAYBE_TEXT,
            "response_format": {"enum": ["url", "b64_json", None]},
        },
        "required": ["prompt"],
    },
    "OpenAIGenerated": record(
        {
            "created": WHOLE,
            "data": list_of(
                record(
                    {
                        "seed": WHOLE,
                        "outcome": TEXT,
                        "cache_status": TEXT,
                        "saved_seconds": NUMBER,
                        "warnings": list_of(TEXT),
                    },
                    {"url": TEXT, "b64_json": TEXT},
                )
            ),
        }
    ),
    "WebuiGenerate": {
        "type": "object",
        "properties": {
            "prompt": TEXT,
            "negative_prompt": TEXT,
            "seed": WHOLE,
            "steps": REQUEST_FIELDS["steps"],
            "width": REQUEST_FIELDS["width"],
            "height": REQUEST_FIELDS["height"],
            "cfg_scale": NUMBER,
            "sampler_name": {"enum": ["Euler", "Euler a"]},
            "batch_size": {"type": "integer", "minimum": 1, "maximum": 8},
            "n_iter": {"type": "integer", "minimum": 1, "maximum": 8},
            "denoising_strength": NUMBER,
            "init_images": list_of(TEXT),
        },
    },
    "WebuiGenerated": record({"images": list_of(TEXT), "parameters": {"type": "object"}, "info": TEXT}),
}
