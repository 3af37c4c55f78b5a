"""A ComfyUI server of the tests' own, and the little of its HTTP API that they need."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

START_SECONDS = 600
RUN_SECONDS = 900


class PromptError(RuntimeError):
    """A prompt that the server refused, or that failed while it ran. ``details`` is what the server said."""

    def __init__(self, details: Any):
        super().__init__(json.dumps(details, default=str)[:3000])
        self.details = details


@dataclass
class Run:
    """What a prompt did: (event, data) as they came, nodes that ran, nodes that came from the cache."""

    id: str
    events: list[tuple[str, dict[str, Any]]] = field(default_factory=list)
    outputs: dict[str, Any] = field(default_factory=dict)
    previews: int = 0
    texts: list[str] = field(default_factory=list)

    @property
    def executed(self) -> list[str]:
        return [d["node"] for kind, d in self.events if kind == "executing" and d.get("node")]

    @property
    def cached(self) -> set[str]:
        return {node for kind, d in self.events if kind == "execution_cached" for node in d["nodes"]}

    def data(self, kind: str) -> list[dict[str, Any]]:
        return [d for found, d in self.events if found == kind]


class Server:
    """ComfyUI in a process of its own, its folders in ``base``, this pack its only custom node.

    Args:
        comfyui: ComfyUI's folder.
        base: an empty folder; holds input, output, models and custom_nodes.
        pack: this repository.
    """

    def __init__(self, comfyui: Path, base: Path, pack: Path, *options: str):
        self.base = base
        for name in ("custom_nodes", "input", "output", "temp", "user", "models"):
            (base / name).mkdir(parents=True, exist_ok=True)
        link = base / "custom_nodes" / "ComfyUI-Aether-HERO"
        if not link.exists():
            link.symlink_to(pack, target_is_directory=True)
        self.port = _free_port()
        self.log = base / "server.log"
        command = [
            sys.executable, str(comfyui / "main.py"), "--cpu", "--port", str(self.port),
            "--base-directory", str(base), "--database-url", f"sqlite:///{base / 'comfyui.db'}",
            "--disable-auto-launch", "--preview-method", "latent2rgb", *options,
        ]  # fmt: skip
        environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": ""}
        self._process = subprocess.Popen(
            command, cwd=comfyui, stdout=self.log.open("wb"), stderr=subprocess.STDOUT, env=environment
        )

    def wait(self) -> Server:
        """Until it answers; it is stopped where that takes too long."""
        end = time.monotonic() + START_SECONDS
        while time.monotonic() < end:
            if self._process.poll() is not None:
                raise RuntimeError(f"ComfyUI ended at its start:\n{self.log.read_text()[-3000:]}")
            try:
                self.get("/system_stats")
                return self
            except OSError:
                time.sleep(0.2)
        self.stop()
        raise RuntimeError("ComfyUI did not start in time")

    def stop(self) -> None:
        self._process.send_signal(signal.SIGINT)
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def get(self, path: str) -> Any:
        with urllib.request.urlopen(self.url + path, timeout=120) as answer:
            return json.loads(answer.read())

    def post(self, path: str, body: Any) -> Any:
        request = urllib.request.Request(
            self.url + path, json.dumps(body).encode(), {"Content-Type": "application/json"}
        )
        try:
            with urllib.request.urlopen(request, timeout=120) as answer:
                content = answer.read()
        except urllib.error.HTTPError as error:
            raise PromptError(json.loads(error.read())) from error
        return json.loads(content) if content else None

    def interrupt(self, prompt_id: str | None = None) -> None:
        """Interrupt that prompt if it is the one that runs; without an id, whatever runs."""
        self.post("/interrupt", {"prompt_id": prompt_id} if prompt_id else {})

    def resident_bytes(self) -> int:
        """Memory that the server's process holds."""
        import psutil  # one of ComfyUI's requirements

        return psutil.Process(self._process.pid).memory_info().rss

    def run(self, prompt: dict[str, Any], watch: Callable[[str, dict[str, Any]], None] | None = None) -> Run:
        """Run a prompt to its end. ``watch`` is called with every event.

        Raises:
            PromptError: refused, failed or interrupted; ``details`` holds why.
        """
        return self.run_all([prompt], watch)[0]

    def run_all(
        self, prompts: list[dict[str, Any]], watch: Callable[[str, dict[str, Any]], None] | None = None
    ) -> list[Run]:
        """Queue prompts together and run them to their ends."""
        return asyncio.run(self._run_all(prompts, watch or (lambda kind, data: None)))

    async def _run_all(
        self, prompts: list[dict[str, Any]], watch: Callable[[str, dict[str, Any]], None]
    ) -> list[Run]:
        import aiohttp

        client = uuid.uuid4().hex
        async with aiohttp.ClientSession() as session:
            url = f"{self.url}/ws?clientId={client}"
            async with session.ws_connect(url, max_msg_size=0) as socket:
                runs: dict[str, Run] = {}
                for prompt in prompts:
                    answer = await asyncio.to_thread(
                        self.post, "/prompt", {"prompt": prompt, "client_id": client}
                    )
                    runs[answer["prompt_id"]] = Run(answer["prompt_id"])
                await asyncio.wait_for(self._listen(socket, runs, watch), RUN_SECONDS)
        for run in runs.values():
            run.outputs = self._outputs(run.id)
        return list(runs.values())

    def _outputs(self, prompt_id: str) -> dict[str, Any]:
        """From the history, where a prompt appears a moment after its success is announced."""
        end = time.monotonic() + 60
        while time.monotonic() < end:
            history = self.get(f"/history/{prompt_id}")
            if prompt_id in history:
                return history[prompt_id]["outputs"]
            time.sleep(0.02)
        raise RuntimeError("the prompt does not appear in the history")

    async def _listen(
        self, socket: Any, runs: dict[str, Run], watch: Callable[[str, dict[str, Any]], None]
    ) -> None:
        open_ids, current = set(runs), None
        async for message in socket:
            if isinstance(message.data, bytes):
                kind = int.from_bytes(message.data[:4], "big")
                run = runs.get(current) if current else None
                if run and kind == 3:
                    length = int.from_bytes(message.data[4:8], "big")
                    run.texts.append(message.data[8 + length :].decode())
                elif run:
                    run.previews += 1
                continue
            event = json.loads(message.data)
            kind, data = event["type"], event["data"]
            current = data.get("prompt_id", current)
            if current in runs:
                runs[current].events.append((kind, data))
            watch(kind, data)
            # Every client is told of an interrupt, also of another's prompt.
            if kind in ("execution_error", "execution_interrupted") and current in runs:
                raise PromptError({"event": kind} | data)
            if kind == "execution_success":
                open_ids.discard(current)
            if not open_ids:
                return


def _free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return found.getsockname()[1]
