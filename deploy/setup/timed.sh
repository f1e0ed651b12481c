#!/bin/sh
# Runs a step of the Makefile and says how long it took: timed.sh LABEL COMMAND [ARGUMENT...]
# Its exit status is the command's.
label=$1
shift
printf '==> %s\n' "$label"
start=$(date +%s)
"$@"
status=$?
seconds=$(($(date +%s) - start))
if [ "$status" -eq 0 ]; then
    printf '    %s: %s s\n' "$label" "$seconds"
else
    printf '    %s: failed after %s s (exit status %s)\n' "$label" "$seconds" "$status" >&2
fi
exit "$status"
