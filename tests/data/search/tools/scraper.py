"""Fetches pages and takes links out of them."""
import re
import time
import urllib.request


class Crawler:
    """Walks a site, politely."""

    def __init__(self, delay):
        self.delay = delay
        self.visited = set()

    def fetch(self, url):
        """Downloads a page and waits afterwards."""
        time.sleep(self.delay)
        with urllib.request.urlopen(url) as answer:
            return answer.read().decode()

    def respects_robots(self, url, rules):
        """Whether robots.txt lets us in."""
        return not any(url.startswith(rule) for rule in rules)


def extract_links(html):
    """All addresses in href attributes."""
    return re.findall(r'href="([^"]+)"', html)
