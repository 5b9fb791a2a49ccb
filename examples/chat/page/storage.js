// What this browser keeps for the next visit and for other windows. It may refuse to keep anything: then nothing is there.

export function recall(name) {
  try {
    return localStorage.getItem(name) ?? "";
  } catch {
    return "";
  }
}

export function keep(name, text) {
  try {
    localStorage.setItem(name, text);
  } catch {
    // This window goes on with what it has in memory.
  }
}
