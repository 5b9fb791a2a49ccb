// Talking to the service.

import * as token from "./token.js";

/** An answer that is an error; `status` is 0 when there was no answer at all. */
export class ApiError extends Error {
  constructor(status, message) {
    super(message);
    this.status = status;
  }

  /** Whether the same request may well succeed in a moment. */
  get isPassing() {
    return this.status === 0 || this.status >= 500;
  }
}

async function call(method, path, body) {
  const sent = token.current();
  const headers = {};
  if (body) headers["content-type"] = "application/json";
  if (sent) headers["x-causal-token"] = sent;
  let response;
  try {
    response = await fetch(path, {
      method,
      headers,
      body: body && JSON.stringify(body),
      signal: AbortSignal.timeout(12_000),
    });
  } catch {
    throw new ApiError(0, "the server does not answer");
  }
  token.take(response.headers.get("x-causal-token"), sent);
  const answer = await response.json().catch(() => null);
  if (!response.ok || answer === null) {
    throw new ApiError(response.status, answer?.error ?? `the server answered ${response.status}`);
  }
  return { answer, node: response.headers.get("x-served-by") };
}

const get = (path, query = {}) => {
  const given = Object.entries(query).filter(([, value]) => value !== undefined);
  return call("GET", given.length ? `${path}?${new URLSearchParams(given)}` : path);
};

export const users = (name) => get("/api/users", { name });
export const createUser = (name) => call("POST", "/api/users", { name });
export const rooms = (user_id) => get("/api/rooms", { user_id });
export const createRoom = (name) => call("POST", "/api/rooms", { name });
export const history = (room, before) => get(`/api/rooms/${room}/messages`, { before });
export const search = (room, q) => get(`/api/rooms/${room}/search`, { q });
export const post = (room, message) => call("POST", `/api/rooms/${room}/messages`, message);
export const markRead = (room, marker) => call("PUT", `/api/rooms/${room}/read`, marker);
export const status = () => get("/api/status");
export const past = () => get("/api/history");

/**
 * Runs `work` again and again, `pause` ms after it ended, and less often while it fails or nobody looks.
 * Returns a function that runs it at once.
 */
export function repeat(work, pause, { failed, worked }) {
  let failures = 0;
  let timer;
  let running = false;
  let again = false;

  async function round() {
    clearTimeout(timer);
    if (running) {
      again = true;
      return;
    }
    running = true;
    again = false;
    try {
      await work();
      failures = 0;
      worked();
    } catch (error) {
      failures += 1;
      failed(error);
    }
    running = false;
    const usual = document.hidden ? pause * 5 : pause;
    const wait = again ? 0 : Math.min(usual * 2 ** Math.min(failures, 3), Math.max(usual, 5_000));
    timer = setTimeout(round, wait);
  }
  round();
  document.addEventListener("visibilitychange", () => document.hidden || round());
  return round;
}
