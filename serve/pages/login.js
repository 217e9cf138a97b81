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
