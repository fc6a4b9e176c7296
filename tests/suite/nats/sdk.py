"""An agent's caller as the protocol's own SDK has it. Prints one JSON object."""

import asyncio
import json
import sys

import nats
from synadia_ai.agents import Agents, DiscoverFilter, Identity, ProtocolError, signer_from_seed


async def main(url: str, goal: str, seed: str) -> None:
    nc = await nats.connect(url, nkeys_seed_str=seed)
    # Signs each prompt (§13) with the key that it was let in by, where the server says which one that is: from 2.10 on.
    version = nc.connected_server_version
    is_signed = (version.major, version.minor) >= (2, 10)
    identity = Identity(signer=signer_from_seed(seed), name="caller") if is_signed else None
    agents = Agents(nc=nc, identity=identity)
    beats = asyncio.Queue()
    # The first call subscribes to heartbeats before it asks (§8.5).
    found = []
    while not found:
        found = await agents.discover(filter=DiscoverFilter(agent="ai-factory"))
    agent = found[0]
    agents.on_heartbeat(agent.instance_id, beats.put_nowait)
    told = {
        "owner": agent.owner,
        "session": agent.session_name,
        "protocol": agent.protocol_version,
        "subject": agent.prompt_subject,
        "max_payload": agent.prompt_endpoint.max_payload_bytes,
        "attachments_ok": agent.prompt_endpoint.attachments_ok,
        "is_signed": is_signed,
        "statuses": [],
        "text": "",
    }
    async for chunk in agent.prompt(goal):
        if hasattr(chunk, "status"):
            told["statuses"].append(chunk.status)
        else:
            told["text"] += chunk.text
    try:
        async for chunk in agent.prompt("a\0b"):
            told["unexpected"] = repr(chunk)
    except ProtocolError as error:
        told["refusal"] = str(error)
    status = await agent.status()
    told["status"] = status.model_dump()
    beat = await beats.get()
    told["heartbeat"] = beat.model_dump()
    told["is_online"] = agents.liveness(agent.instance_id).is_online
    told["instance_id"] = agent.instance_id
    told["pong"] = await agents.ping(agent.instance_id)
    await agents.close()
    await nc.close()
    print(json.dumps(told))


asyncio.run(main(sys.argv[1], sys.argv[2], sys.argv[3]))
