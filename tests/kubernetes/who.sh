#!/bin/sh
# Tells whoever asks over HTTP who answered, and as whom he was asked.
from=${REMOTE_ADDR#"[::ffff:"}
printf 'Content-Type: text/plain\r\n\r\n%s %s\n' "$(hostname)" "${from%]}"
