// Copying: a text into the clipboard, or, where the browser forbids that, selected to be copied.

/** Copy a text, and say so on the button. */
export async function copy(button, text) {
  const said = (button.dataset.said ??= button.textContent);
  try {
    await navigator.clipboard.writeText(text);
    button.textContent = "Copied";
  } catch {
    button.textContent = copyBySelection(text, button.parentElement) ? "Copied" : "Cannot copy here";
  }
  setTimeout(() => (button.textContent = said), 2000);
}

/** The old way, which needs no secure context. */
function copyBySelection(text, place) {
  const area = document.createElement("textarea");
  area.value = text;
  area.className = "unseen";
  place.append(area);
  area.select();
  const copied = document.execCommand("copy");
  area.remove();
  return copied;
}
