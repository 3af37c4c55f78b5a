# Sourced by the other scripts: makes a virtual environment of the project's own and installs into it.
# Settings: PYTHON (an interpreter of 3.10 or newer), TORCH (what pip is to install as torch).

# The folder of a ComfyUI checkout, or nothing.
comfyui_folder() {
    local folder="${COMFYUI_PATH:-$HOME/comfy/ComfyUI}"
    if [ -f "$folder/main.py" ] && [ -f "$folder/requirements.txt" ]; then echo "$folder"; fi
}

# A torch for this machine: the newest one tried without a GPU, pip's choice with one.
torch_packages() {
    if [ -n "${TORCH:-}" ]; then echo "$TORCH"
    elif [ -n "${1:-}" ]; then echo "torch==2.11.0 torchvision==0.26.0 torchaudio==2.11.0"
    elif command -v nvidia-smi >/dev/null 2>&1; then echo "torch"
    else echo "torch==2.13.0"
    fi
}

# Gigabytes that are free where FOLDER is or will be.
free_gigabytes() {
    df -Pk "$(dirname "$1")" | awk 'END { print int($4 / 1048576) }'
}

# with_comfyui FOLDER: ComfyUI's folder, if the environment FOLDER has its requirements or there is room for them.
with_comfyui() {
    local comfyui free
    comfyui="$(comfyui_folder)"
    if [ -n "$comfyui" ] && [ ! -e "$1/.installed" ]; then
        free="$(free_gigabytes "$1")"
        # 7 GB when installed, 3 of downloads meanwhile, and room for the tests' own files.
        if [ "$free" -lt 12 ]; then
            echo "ComfyUI is left out: its requirements need 12 GB of disk, $free are free" >&2
            return
        fi
    fi
    echo "$comfyui"
}

find_python() {
    local candidate
    for candidate in "${PYTHON:-}" python3.11 python3.12 python3.10 python3.13 python3; do
        if [ -n "$candidate" ] && command -v "$candidate" >/dev/null 2>&1 &&
            "$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 10))' >/dev/null 2>&1; then
            echo "$candidate"
            return
        fi
    done
    echo "error: no Python of 3.10 or newer; install one, or name it: PYTHON=/path/to/python $0" >&2
    return 1
}

# environment FOLDER EXTRAS [COMFYUI]: make the environment FOLDER and install the project with EXTRAS, and
# ComfyUI's requirements where its folder is given. Does nothing where that has been done for the same files; leaves
# nothing where it fails.
environment() {
    local folder="$1" extras="$2" comfyui="${3:-}" python torch stamp
    python="$(find_python)"
    torch="$(torch_packages "$comfyui")"
    stamp="$(cat pyproject.toml requirements.txt ${comfyui:+"$comfyui/requirements.txt"} | cksum) $torch"
    if [ "$(cat "$folder/.installed" 2>/dev/null)" = "$stamp" ]; then return; fi
    echo "Setting up $folder (once; some minutes) ..."
    rm -rf "$folder"
    "$python" -m venv "$folder" || {
        echo "error: $python cannot make virtual environments; on Debian and Ubuntu: apt install python3-venv" >&2
        return 1
    }
    # Torch is named again, so that nothing else moves it.
    # shellcheck disable=SC2086 -- several packages
    "$folder/bin/python" -m pip install --quiet $torch ${comfyui:+-r "$comfyui/requirements.txt"} &&
        "$folder/bin/python" -m pip install --quiet $torch --editable ".[$extras]" || {
        echo "error: $folder could not be set up ($(free_gigabytes "$folder") GB of disk are free)" >&2
        rm -rf "$folder"
        return 1
    }
    echo "$stamp" > "$folder/.installed"
}
