"""The HTTP API: framework-neutral handlers, and an aiohttp program around them.

    messages.py     what comes in (Asked) and goes out (Answer); knows no framework
    auth.py         who asks: tokens, scopes, namespaces, Host and Origin
    service.py      one door: Asked in, Answer out; routes, rights, errors in the caller's dialect
    errors.py       what went wrong, in each dialect
    generating.py   /zit/v1/generate; asks the runtime
    blobs.py        pictures by digest; thumbnails.py those of a gallery
    entries.py      what is stored; administration.py weights, plugins, the queue
    audits.py       renders an entry again; catalogue.py which weights can be named
    metrics.py      /metrics; prometheus.py how they read
    history.py      counters by time; answers.py the latest ones; events.py news as they happen
    aiohttp_app.py  aiohttp's requests to Asked, and Answers back; serving.py runs it as a program

**To add routes**: write `async def handler(call: Call) -> Answer` in a module that imports no framework,
list it as `Route("GET", "/zit/v1/things/{name}", handler, scope=Scope.READ)`, and give the list to
`Service(runtime, routes=[*routes_of_ours(), *yours])`. `call.who` is the caller and its namespace (show
nothing of another one), `call.names` holds what stood in the braces, `call.runtime` leads to the engine.
Raise a ZitError or an HttpError: the service turns it into an answer in the route's dialect.

**To mount it in a host**: make one `Service`, and for each request under `/zit/` await
`service.answer(asked)`. `aiohttp_app.handler(service)` is that for aiohttp, `asgi_app.AsgiApp` for
Starlette and FastAPI. `render=` and `preload=` of the service lead what needs the device to the host's
own queue instead of the runtime's.
"""
