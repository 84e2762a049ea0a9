"""Token trees and the log-probs of what they hold."""
