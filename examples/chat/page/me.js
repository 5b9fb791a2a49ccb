// Who I am. This chat has no passwords: a name is all it takes.

import * as api from "./api.js";
import { ask } from "./dialog.js";
import { byId, paint, setText } from "./dom.js";
import { keep, recall } from "./storage.js";

/** The user that this page speaks for, once `becomeSomeone` is through. */
export let me = null;

/** Signs in with the name of last time, or asks for one. */
export async function becomeSomeone() {
  const name = recall("name");
  me = name && (await signIn(name).catch(() => null));
  me ||= await ask({
    title: "Who are you?",
    note: "A name is all it takes. Whoever gives it is taken for that person.",
    label: "Your name",
    ok: "Join",
    value: name,
    must: true,
    accept: signIn,
  });
  keep("name", me.name);
  setText(byId("my-name"), me.name);
  paint(byId("my-avatar"), me.name);
  byId("change-name").addEventListener("click", changeName);
}

async function changeName() {
  const user = await ask({
    title: "Change name",
    note: "What you wrote so far keeps the name it was written under.",
    label: "Your name",
    ok: "Change",
    value: me.name,
    accept: signIn,
  });
  if (!user) return;
  keep("name", user.name);
  location.reload();
}

/** The user of that name, new or not. */
async function signIn(name) {
  const user = await userOf(name);
  if (user) return user;
  try {
    return (await api.createUser(name)).answer;
  } catch (error) {
    if (error.status !== 409) throw error;
    // Somebody made it elsewhere. The primary has said so, and what is read from now on shows it.
    return (await userOf(name)) ?? Promise.reject(error);
  }
}

async function userOf(name) {
  const [user] = (await api.users(name)).answer;
  return user;
}
