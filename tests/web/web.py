"""What the tests of the pages share: programs, browsers, waiting for what is to be seen."""
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import tempfile
import time
import traceback
import urllib.error
import urllib.request

from selenium import webdriver
from selenium.webdriver.chrome.options import Options
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys

BIN = os.environ["RHETOR_BIN"]
PICTURES = os.environ.get("PICTURES") or None
WAIT_S = 60


def run(program, *args, **more):
    done = subprocess.run([f"{BIN}/{program}", *map(str, args)], capture_output=True, text=True, **more)
    assert done.returncode == 0, (program, args, done.returncode, done.stderr)
    return done.stdout


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


class Server:
    """A program that serves until it is killed; the same port after a new start."""

    def __init__(self, program, *args):
        self.command = [f"{BIN}/{program}", *map(str, args)]
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.log = open(os.path.join(tempfile.gettempdir(), f"{program}.{self.port}.log"), "a")
        self.start()

    def start(self):
        self.process = subprocess.Popen([*self.command, "--port", str(self.port)], stderr=self.log, stdout=self.log)
        self.wait()

    def wait(self):
        until(lambda: self.alive() or self.process.poll() is not None, "the server answers")
        assert self.process.poll() is None, "the server left: " + open(self.log.name).read()

    def alive(self):
        try:
            urllib.request.urlopen(self.url + "/style.css", timeout=5).read()
            return True
        except (urllib.error.URLError, OSError):
            return False

    def kill(self, number=signal.SIGKILL):
        self.process.send_signal(number)
        return self.process.wait(timeout=WAIT_S)

    def post(self, path, body, token, timeout=WAIT_S):
        q = urllib.request.Request(self.url + path, json.dumps(body).encode(),
                                   {"Content-Type": "application/json", "Authorization": "Bearer " + token})
        return json.load(urllib.request.urlopen(q, timeout=timeout))


def until(true, what, seconds=WAIT_S):
    end = time.time() + seconds
    while time.time() < end:
        try:
            v = true()
            if v:
                return v
        except Exception as e:  # a page that is being drawn anew
            last = e
        time.sleep(0.05)
    raise AssertionError(f"in {seconds} s not seen: {what}")


def seen(text):
    """A text as the pages show it: hidden characters by their names (serve/pages/common.js)."""
    return re.sub("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u061c\u200b-\u200f\u202a-\u202e\u2060-\u2069\ufeff]",
                  lambda m: f"U+{ord(m[0]):04X}", text)


class Page:
    def __init__(self, width=1440, height=1000, dark=False, language="en-US"):
        o = Options()
        for a in ("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--hide-scrollbars",
                  f"--window-size={width},{height}", f"--lang={language}"):
            o.add_argument(a)
        o.binary_location = shutil.which("chromium")
        o.set_capability("goog:loggingPrefs", {"browser": "ALL"})
        self.d = webdriver.Chrome(service=Service(shutil.which("chromedriver")), options=o)
        self.d.execute_cdp_cmd("Emulation.setDeviceMetricsOverride",
                               {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 500})
        if dark:
            self.d.execute_cdp_cmd("Emulation.setEmulatedMedia",
                                   {"features": [{"name": "prefers-color-scheme", "value": "dark"}]})

    def get(self, url):
        self.d.get(url)

    def all(self, css):
        return self.d.find_elements(By.CSS_SELECTOR, css)

    def text(self, css):
        return self.d.find_element(By.CSS_SELECTOR, css).text

    def see(self, css, text="", seconds=WAIT_S):
        return until(lambda: [e for e in self.all(css) if text in e.text], f"{css} with {text!r}", seconds)[0]

    def contents(self, css):
        """Whole texts; what `text` does in the browser takes minutes for a long one on a busy machine."""
        return self.d.execute_script("return [...document.querySelectorAll(arguments[0])].map((e) => e.textContent)", css)

    def keys(self, *keys):
        self.d.switch_to.active_element if not self.all("body") else None
        self.d.find_element(By.TAG_NAME, "body").send_keys(*keys)

    def picture(self, name):
        if PICTURES:
            os.makedirs(PICTURES, exist_ok=True)
            size = self.d.execute_cdp_cmd("Page.getLayoutMetrics", {})["cssContentSize"]
            shot = self.d.execute_cdp_cmd("Page.captureScreenshot", {
                "captureBeyondViewport": True, "clip": {"x": 0, "y": 0, "width": size["width"],
                                                        "height": min(size["height"], 4000), "scale": 1}})
            import base64
            with open(f"{PICTURES}/{name}.png", "wb") as f:
                f.write(base64.b64decode(shot["data"]))

    def errors(self):
        return [e for e in self.d.get_log("browser") if e["level"] == "SEVERE" and "favicon" not in e["message"]
                and "Failed to load resource" not in e["message"]]

    def wider_than_the_window(self):
        return self.d.execute_script("return document.documentElement.scrollWidth > innerWidth + 1")

    def close(self):
        self.d.quit()


class Skipped(Exception):
    """What is not here."""


def main(tests):
    """Each in a folder of its own; T in the environment: those whose name holds it."""
    for t in tests:
        if os.environ.get("T", "") not in t.__name__:
            continue
        here = os.getcwd()
        folder = tempfile.mkdtemp()
        os.chdir(folder)
        try:
            t()
            print("ok", t.__name__, flush=True)
        except Skipped as e:
            print("skipped", t.__name__ + ":", e, flush=True)
        except Exception:
            traceback.print_exc()
            print("FAILED", t.__name__, flush=True)
        finally:
            os.chdir(here)
            shutil.rmtree(folder, ignore_errors=True)
