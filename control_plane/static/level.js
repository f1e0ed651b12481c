// How loud a media stream is.

const FLOOR = -60; // dBFS shown as silence
const calm = matchMedia("(prefers-reduced-motion: reduce)");

/** Shows the loudness of `stream` on a meter; returns what ends it. */
export function watchLevel(context, stream, meter) {
  const analyser = new AnalyserNode(context, { fftSize: 1024 });
  context.createMediaStreamSource(stream).connect(analyser);
  const samples = new Float32Array(analyser.fftSize);
  const timer = setInterval(() => {
    analyser.getFloatTimeDomainData(samples);
    const power = samples.reduce((sum, value) => sum + value * value, 0) / samples.length;
    const level = 1 - 10 * Math.log10(power + 1e-12) / FLOOR;
    meter.value = Math.max(level, meter.value - 0.08, 0); // rises at once, falls slowly
  }, calm.matches ? 250 : 50);
  return () => {
    clearInterval(timer);
    meter.value = 0;
  };
}
