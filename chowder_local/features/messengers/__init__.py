"""Messengers without the Internet: stand-ins for their servers, which agents and people share."""
