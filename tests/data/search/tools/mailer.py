"""Sending mail."""
from email.message import EmailMessage


class Mailer:
    def __init__(self, transport):
        self.transport = transport

    def send_invitation(self, to, link):
        """Invites somebody to a workspace."""
        message = EmailMessage()
        message["To"] = to
        message.set_content(f"Join here: {link}")
        self.transport.send(message)

    def retry_bounced(self, bounced):
        """Delivers again what came back."""
        for message in bounced:
            self.transport.send(message)
