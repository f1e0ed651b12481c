// What the suite runs beside a page: keeps what is heard and seen from `output`, as base64.
function observe(output, rate, pictures) {
  const kept = [];
  const blocks = [];
  const canvas = new OffscreenCanvas(1, 1);
  const drawing = canvas.getContext("2d", {willReadFrequently: true});
  let context;

  function keepPicture() {
    output.requestVideoFrameCallback(keepPicture);
    canvas.width = output.videoWidth;
    canvas.height = output.videoHeight;
    drawing.drawImage(output, 0, 0);
    kept.push(drawing.getImageData(0, 0, canvas.width, canvas.height));
    if (kept.length > pictures) kept.shift();
  }

  function listen(stream) {
    context = new AudioContext({sampleRate: rate});
    const tap = context.createScriptProcessor(2048, 1, 1);
    tap.onaudioprocess = ({inputBuffer}) => blocks.push(inputBuffer.getChannelData(0).slice());
    context.createMediaStreamSource(stream).connect(tap).connect(context.destination);
  }

  async function encoded(parts) {
    const url = await new Promise((resolve) => {
      const reader = new FileReader();
      reader.onload = () => resolve(reader.result);
      reader.readAsDataURL(new Blob(parts));
    });
    return url.slice(url.indexOf(",") + 1);
  }

  const tracks = output.srcObject ? output.srcObject.getTracks() : [];
  const kinds = tracks.map((track) => track.kind);
  if (kinds.includes("video")) output.requestVideoFrameCallback(keepPicture);
  if (kinds.includes("audio")) listen(output.srcObject);
  async function end() {
    await context?.close();
    const pictures = kept.map(async ({width, height, data}) => ({
      width,
      height,
      data: await encoded([data]),
    }));
    return {kinds, audio: await encoded(blocks), pictures: await Promise.all(pictures)};
  }
  return {end};
}
