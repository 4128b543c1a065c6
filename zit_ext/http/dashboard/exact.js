/** Numbers as they were written: seeds of ComfyUI have 64 bits, and a number here has 53. */

/** Return what a JSON text says, with whole numbers that would lose digits as text. Older browsers round them. */
export const parsed = (text) =>
  JSON.parse(text, (name, value, context) =>
    typeof value === "number" && !Number.isSafeInteger(value) && /^-?\d+$/.test(context?.source ?? "") ? context.source : value,
  );

/** Return a number that was typed in, as text if it has more digits than a number here. */
export const typed = (text) => (Number.isSafeInteger(Number(text)) ? Number(text) : text);
