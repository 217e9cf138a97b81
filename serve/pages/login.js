import { call } from "/common.js";

document.getElementById("enter").addEventListener("submit", async (e) => {
  e.preventDefault();
  try {
    await call("/api/enter", { token: document.getElementById("token").value.trim() });
    location.reload();
  } catch (error) {
    document.getElementById("status").textContent = error.message;
  }
});

// Who follows a link in another site's page comes without their cookie (SameSite=Strict); our own
// request carries it. If that is let in, so is a reload.
const page = await (await fetch("/")).text();
if (!page.includes("/login.js")) location.replace("/");
