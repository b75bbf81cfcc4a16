import os
import shutil
import subprocess

import pytest

PACKAGES = ("chromium", "chromium-driver")  # Debian's


def _missing():
    return [name for name in ("chromium", "chromedriver") if not shutil.which(name)]


def _install():
    """Install Chromium where that is possible; returns why not, or None."""
    if not _missing():
        return None
    if os.geteuid() != 0 or not shutil.which("apt-get"):
        return f"{' and '.join(_missing())} missing: apt-get install {' '.join(PACKAGES)}"
    install = ("apt-get", "install", "-y", "--no-install-recommends", *PACKAGES)
    for command in (("apt-get", "update"), install):
        done = subprocess.run(command, capture_output=True, text=True)
    return f"{' '.join(install)} failed: {done.stderr.strip()}" if _missing() else None


@pytest.fixture(scope="session")
def chromium():
    """Headless Chromium, driven by selenium. Without it, tests are skipped; in CI they fail."""
    problem = _install()
    if problem:
        (pytest.fail if os.environ.get("CI") else pytest.skip)(problem)
    from selenium import webdriver
    from selenium.webdriver.chrome.service import Service

    options = webdriver.ChromeOptions()
    for argument in ("--headless=new", "--no-sandbox", "--disable-dev-shm-usage"):
        options.add_argument(argument)
    options.binary_location = shutil.which("chromium")
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    driver = webdriver.Chrome(options=options, service=Service(shutil.which("chromedriver")))
    yield driver
    driver.quit()
