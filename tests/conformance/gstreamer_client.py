"""A WHIP publisher and WHEP player on GStreamer's webrtcbin, which does what `whipclientsink` does.

    /usr/bin/python3 gstreamer_client.py publish URL MEDIA ...
    /usr/bin/python3 gstreamer_client.py play URL FILE

A process of its own: it needs the bindings of the system's Python and nothing else. A publisher
sends a tone (`audio`) or a white picture (`vp8` or `h264`) with all candidates in its offer; a
player writes the samples it hears (int16, mono, 48 kHz) to FILE, and sends its candidates after the
offer. Each step is a line of JSON on stdout. When stdin ends it deletes its session.
"""

import json
import sys
import threading
import urllib.error
import urllib.request
from urllib.parse import urljoin

import gi

gi.require_version("Gst", "1.0")
gi.require_version("GstSdp", "1.0")
gi.require_version("GstWebRTC", "1.0")
from gi.repository import GLib, Gst, GstSdp, GstWebRTC  # noqa: E402

FREQUENCY = 440
RTP = "application/x-rtp,media={media},encoding-name={name},payload={payload},clock-rate={rate}"
OPUS = RTP.format(media="audio", name="OPUS", payload=111, rate=48000)
VIDEO = "videotestsrc is-live=true pattern=white ! video/x-raw,width=320,height=240,framerate=15/1"
SOURCES = {
    "audio": f"audiotestsrc is-live=true freq={FREQUENCY} volume=0.4 ! audioconvert "
    f"! audioresample ! opusenc ! rtpopuspay ! capsfilter caps={OPUS}",
    "vp8": f"{VIDEO} ! vp8enc deadline=1 ! rtpvp8pay ! capsfilter caps="
    + RTP.format(media="video", name="VP8", payload=96, rate=90000),
    "h264": f"{VIDEO} ! openh264enc ! h264parse ! rtph264pay config-interval=-1 ! capsfilter caps="
    + RTP.format(media="video", name="H264", payload=97, rate=90000),
}
HEARD = (
    "rtpopusdepay ! opusdec ! audioconvert ! audioresample "
    "! audio/x-raw,format=S16LE,channels=1,rate=48000 ! filesink buffer-mode=unbuffered location="
)
HTTP_TIMEOUT = 20


def say(event, **fields):
    print(json.dumps({"event": event, **fields}), flush=True)


def ask(method, url, body=None, **headers):
    """Status, headers and text of an answer, whatever the status."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    data = None if body is None else body.encode()
    request = urllib.request.Request(url, data, named, method=method)
    try:
        with urllib.request.urlopen(request, timeout=HTTP_TIMEOUT) as answer:
            return answer.status, answer.headers, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.headers, error.read().decode()


class Client:
    """One session."""

    def __init__(self, role, url, arguments):
        self.url = url
        self.trickle = role == "play"
        self.loop = GLib.MainLoop()
        self.session = None
        self.etag = ""
        self.candidates = []
        self.offered = False
        self.pipeline = Gst.Pipeline.new(None)
        self.webrtc = Gst.ElementFactory.make("webrtcbin")
        self.webrtc.set_property("bundle-policy", GstWebRTC.WebRTCBundlePolicy.MAX_BUNDLE)
        self.pipeline.add(self.webrtc)
        self.webrtc.connect("on-ice-candidate", self.keep_candidate)
        self.webrtc.connect("notify::ice-gathering-state", self.gathering)
        self.webrtc.connect("notify::connection-state", self.connecting)
        if role == "publish":
            for media in arguments:
                source = Gst.parse_bin_from_description(SOURCES[media], True)
                self.pipeline.add(source)
                source.link(self.webrtc)
            direction = GstWebRTC.WebRTCRTPTransceiverDirection.SENDONLY
            for at in range(len(arguments)):
                self.webrtc.emit("get-transceiver", at).set_property("direction", direction)
        else:
            self.file = arguments[0]
            direction = GstWebRTC.WebRTCRTPTransceiverDirection.RECVONLY
            self.webrtc.emit("add-transceiver", direction, Gst.Caps.from_string(OPUS))
            self.webrtc.connect("pad-added", self.play)
        self.webrtc.connect("on-negotiation-needed", self.negotiate)

    def run(self):
        threading.Thread(target=self.wait_for_end, daemon=True).start()
        self.pipeline.set_state(Gst.State.PLAYING)
        self.loop.run()
        if self.session is not None:
            status, _, _ = ask("DELETE", self.session)
            say("deleted", status=status)
        self.pipeline.set_state(Gst.State.NULL)

    def wait_for_end(self):
        sys.stdin.read()
        GLib.idle_add(self.loop.quit)

    def negotiate(self, webrtc):
        webrtc.emit("create-offer", None, Gst.Promise.new_with_change_func(self.created))

    def created(self, promise):
        reply = promise.get_reply()  # the offer is gone when this is
        offer = reply.get_value("offer")
        self.webrtc.emit("set-local-description", offer, None)
        if self.trickle:
            GLib.idle_add(self.offer, offer.sdp.as_text())

    def keep_candidate(self, webrtc, index, candidate):
        self.candidates.append(candidate)

    def gathering(self, webrtc, _):
        if webrtc.get_property("ice-gathering-state") == GstWebRTC.WebRTCICEGatheringState.COMPLETE:
            GLib.idle_add(self.gathered)

    def gathered(self):
        sdp = self.webrtc.get_property("local-description").sdp.as_text()
        if not self.trickle:
            self.offer(sdp)
            return
        if not self.offered:  # the answer has not come
            GLib.timeout_add(20, self.gathered)
            return
        lines = sdp.splitlines()
        kept = [line for line in lines if line.startswith(("a=ice-ufrag:", "a=ice-pwd:"))][:2]
        kept += [line for line in lines if line.startswith("m=")][:1]
        kept += [line for line in lines if line.startswith("a=mid:")][:1]
        kept += ["a=" + candidate for candidate in self.candidates if candidate]
        status, _, text = ask(
            "PATCH",
            self.session,
            "\r\n".join([*kept, "a=end-of-candidates", ""]),
            Content_Type="application/trickle-ice-sdpfrag",
            If_Match=self.etag,
        )
        say("trickled", status=status, text=text, candidates=len(self.candidates))

    def offer(self, sdp):
        if self.offered:
            return
        self.offered = True
        status, headers, text = ask("POST", self.url, sdp, Content_Type="application/sdp")
        if status != 201:
            say("refused", status=status, text=text)
            self.loop.quit()
            return
        self.session, self.etag = urljoin(self.url, headers["Location"]), headers["ETag"]
        say("created", session=self.session, answer=text)
        _, answer = GstSdp.SDPMessage.new_from_text(text)
        description = GstWebRTC.WebRTCSessionDescription.new(GstWebRTC.WebRTCSDPType.ANSWER, answer)
        self.webrtc.emit("set-remote-description", description, None)

    def connecting(self, webrtc, _):
        say("state", state=webrtc.get_property("connection-state").value_nick)

    def play(self, webrtc, pad):
        if pad.direction == Gst.PadDirection.SRC:
            sink = Gst.parse_bin_from_description(HEARD + self.file, True)
            self.pipeline.add(sink)
            sink.sync_state_with_parent()
            pad.link(sink.get_static_pad("sink"))


if __name__ == "__main__":
    Gst.init(None)
    Client(sys.argv[1], sys.argv[2], sys.argv[3:]).run()
