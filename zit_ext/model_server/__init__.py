"""The process that keeps weights: it outlives the web UI and renders for every program of one user.

`protocol`, `records_on_wire` and `connection` are what both sides speak. `home` is where a server is found,
`starting` starts one. `server` and `process` are the server itself, which no client imports.
"""
