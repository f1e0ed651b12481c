#!/bin/sh
# Makes sure that there is GStreamer with webrtcbin and its Python bindings, for the tests of WHIP
# and WHEP. They are of the system's Python, not of the virtual environment's.
set -eu
check='
import gi
gi.require_version("GstWebRTC", "1.0")
from gi.repository import Gst, GstWebRTC
Gst.init(None)
names = "webrtcbin nicesrc opusenc rtpopuspay vp8enc openh264enc h264parse rtph264pay filesink"
raise SystemExit(not all(map(Gst.ElementFactory.find, names.split())))
'
for python in /usr/bin/python3 python3; do
    if command -v "$python" >/dev/null && "$python" -c "$check" 2>/dev/null; then
        exit 0
    fi
done
if [ "$(id -u)" -eq 0 ] && command -v apt-get >/dev/null; then
    echo '    no GStreamer found: installing it'
    apt-get update -qq
    DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends python3-gi \
        gir1.2-gst-plugins-bad-1.0 gstreamer1.0-plugins-base gstreamer1.0-plugins-good \
        gstreamer1.0-plugins-bad gstreamer1.0-nice >/dev/null
    exit 0
fi
echo 'The tests of WHIP and WHEP need GStreamer with its Python bindings, which were not found.' >&2
echo 'Debian: sudo apt-get install --no-install-recommends python3-gi gir1.2-gst-plugins-bad-1.0' >&2
echo '    gstreamer1.0-plugins-base gstreamer1.0-plugins-good gstreamer1.0-plugins-bad' >&2
echo '    gstreamer1.0-nice    macOS: brew install gstreamer libnice-gstreamer pygobject3' >&2
exit 1
