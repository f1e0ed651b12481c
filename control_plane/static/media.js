// What a call takes from the person's devices and how it is named. Knows no server and no element.

const KINDS = { audio: ["audio"], video: ["video"], "audio-video": ["audio", "video"] };

/** The kinds of media of a modality, in the order in which they are offered. */
export function kindsOf(modality) {
  return KINDS[modality] ?? KINDS.audio;
}

/** What the person is asked for. */
export function deviceName(kinds) {
  return kinds.length > 1 ? "camera and microphone" : kinds[0] === "video" ? "camera" : "microphone";
}

/** For getUserMedia. `declared` is the stream's: by kind, or of the one kind that it has. */
export function constraintsFor(kinds, declared) {
  const own = (kind) => declared?.[kind] ?? (kinds.length === 1 ? declared : null) ?? true;
  return Object.fromEntries(kinds.map((kind) => [kind, own(kind)]));
}

/** Title and text for an error of getUserMedia. */
export function deviceProblem(error, kinds) {
  const name = deviceName(kinds);
  const many = kinds.length > 1;
  const texts = {
    NotAllowedError: [`The ${name} ${many ? "are" : "is"} blocked`,
      `Allow ${many ? "them" : "it"} for this page in the browser's address bar, then try again.`],
    NotFoundError: [`No ${name.replace(" and ", " or ")} was found`, "Plug one in or turn it on, then try again."],
    NotReadableError: [`The ${name} cannot be opened`,
      "Another program may be using it. Close that program, then try again."],
    OverconstrainedError: [`The ${name} ${many ? "do" : "does"} not fit`,
      `This stream asks for a setting that yours ${many ? "do" : "does"} not have (${error.constraint}).`],
  };
  return texts[error.name] ?? [`The ${name} cannot be opened`, error.message];
}
